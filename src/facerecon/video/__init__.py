"""A face over the frames of a clip: one identity, poses and expressions that follow each other.

Clips are read and written with PyAV (`pip install "facerecon[video]"`), for three reasons. It gives
the time of every frame, which on phones is not evenly spaced; it writes H.264, which browsers play;
and it works in this process, so that what is wrong with a file arrives as an error of Python.
"""
