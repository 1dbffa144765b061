"""The pipeline's stages, `python -m pipeline.STAGE`, and what they are made of."""

import gc
import sys

if sys.argv[0] == "-m":  # a stage is starting: its imports make a million objects, of which none is garbage
    gc.disable()  # until `exit_on_error`; looking through them again and again took a sixth of a stage's start
