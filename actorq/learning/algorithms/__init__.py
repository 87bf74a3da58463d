"""Algorithms of the Q family: one file for each, found by the entry-point group `actorq.algorithms`."""

from .algorithm import Algorithm, AlgorithmConfig, BatchLoss, LossOutput, Need, Outputs

__all__ = ["Algorithm", "AlgorithmConfig", "BatchLoss", "LossOutput", "Need", "Outputs"]
