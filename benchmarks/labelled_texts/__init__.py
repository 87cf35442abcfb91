"""Labelled texts for benchmarks/detector.py, English and Chinese, from a seed.

Written from the templates here, without a look at the detector: they share no pattern, no list
and no check digit code with it. Some templates are meant to be hard (names with nothing before
them, numbers in words' company), some harmless texts to look dangerous.
"""
