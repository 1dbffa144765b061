"""Where the stages put things; the same paths stand in dvc.yaml."""

from pathlib import Path

PREPARED = Path("data/prepared")  # SPLIT.jsonl
TEACHER_LOGITS = Path("data/teacher_logits")  # a store per split
PREDICTIONS = Path("data/predictions")  # NAME.jsonl, where NAME is METHOD-SEED or one of the references
STUDENTS = Path("models/students")  # METHOD-SEED/
MINI_MODELS = Path("models/mini")  # teacher/ and student/
CURRICULUM_CODE = Path("data/curriculum_code")  # METHOD.json
LOCAL_INPUTS = Path("data/local_inputs")  # problems.json, teacher.json, teacher_tokenizer.json, and so for student
RUNS = Path("data/runs")  # METHOD-SEED/
PREPARE_METRICS = Path("metrics/prepare.json")
TEACHER_LOGITS_METRICS = Path("metrics/teacher_logits.json")
TRAINING_METRICS = Path("metrics/training")  # METHOD-SEED.json
EVALUATION_METRICS = Path("metrics/evaluation")  # NAME.json
RESULTS = Path("metrics/all_results_enhanced.json")  # the report's numbers
RUN_PICTURES = Path("plots/runs")  # METHOD-SEED.png
CHECKPOINTS = Path("checkpoints")  # unfinished work and locks; ignored by git and DVC

TEACHER, UNTRAINED_STUDENT = "teacher", "untrained_student"  # the references: the ceiling and the floor
LEARNING_CURVE, ARM_LOG = "learning_curve.csv", "arm_log.csv"  # in a run's folder
