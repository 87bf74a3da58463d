"""Parameter averaging of learners: local SGD and elastic averaging."""
