"""What adaptive curricula are made of: Q-values with their errors, shrinkage, policies and rewards.

A curriculum of one's own that learns from rewards takes `SelfEvolvingCurriculum` with other settings, or these parts
with another policy; see pipeline/curricula/rl and pipeline/curricula/ucb.
"""
