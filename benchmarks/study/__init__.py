"""The study: when does a curriculum pay? All methods with many seeds in several settings, at the mini scale.

    make study                                    everything that is missing: hours on two cores
    python -m benchmarks.study --settings broad   one setting
    python -m benchmarks.study --methods rl traditional --seeds 5
    python -m benchmarks.study --report           tables and figure alone

It can be stopped at any time: what is finished is one row of results/study/SETTING.jsonl per run, and is not run again.
Underneath is the pipeline itself: a clone of the last commit per setting, in .study, in which DVC runs the cells.
"""
