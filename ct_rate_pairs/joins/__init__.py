"""
Other data sets as tables of a reader's own: questions about volumes of CT-RATE (3D-RAD, RadGenome-ChestCT), and the
labels of RAD-ChestCT as questions. Each file knows one data set, and none of them holds any of its data.
"""
