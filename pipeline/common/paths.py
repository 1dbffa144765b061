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
TRAINING_COSTS = Path("data/costs/training")  # METHOD-SEED.json
EVALUATION_COSTS = Path("data/costs/evaluation")  # NAME.json
TEACHER_LOGITS_COST = Path("data/costs/teacher_logits.json")
PREPARE_METRICS = Path("metrics/prepare.json")
TEACHER_LOGITS_METRICS = Path("metrics/teacher_logits.json")
RESULTS = Path("metrics/all_results_enhanced.json")  # the report's numbers
OVERVIEW = Path("metrics/overview.json")  # the few of them that experiments are compared by
RUN_PICTURES = Path("plots/runs")  # METHOD-SEED.png
CHECKPOINTS = Path("checkpoints")  # unfinished work, live logs and locks; ignored by git and DVC
TRACKING = Path("tracking")  # what trackers keep here, a folder for each; ignored by git and DVC

TEACHER, UNTRAINED_STUDENT = "teacher", "untrained_student"  # the references: the ceiling and the floor
RECORD, LEARNING_CURVE, ARM_LOG = "record.json", "learning_curve.csv", "arm_log.csv"  # in a run's folder
LIVE_LOG = "live.jsonl"  # in the folder of a run's checkpoint
