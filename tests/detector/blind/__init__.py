"""Three strategies and three look-alikes by somebody who has not seen the detector, for `--additions`.

They are there to be run once, against thresholds frozen before: nothing of the detector is changed to fit them, and
they aren't changed to fit the detector. Whoever adds to them writes new files.
"""
