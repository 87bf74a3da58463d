"""One run of the baseline of `solve_cartpole`: Stable-Baselines3's DQN with rl-zoo3's settings.

Prints one line of JSON as soon as CartPole-v1 is solved, or at the cap. Evaluation costs the baseline
little: numpy plays all 20 episodes at once (some 40 ms, where an update takes 2 to 3).
"""

import argparse
import json
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN

EPISODES = 20
SOLVED = 475.0  # mean undiscounted return of EPISODES greedy episodes
EPSILON_STEPS = 8_000  # environment steps from epsilon 1 to 0.04


def greedy_returns(network: torch.nn.Module, seed: int) -> NDArray[np.float64]:
    """Returns [EPISODES] of one greedy episode each, all episodes advancing together."""
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    weights = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers]
    envs = gymnasium.make_vec("CartPole-v1", EPISODES, vectorization_mode="vector_entry_point")
    observations, _ = envs.reset(seed=seed)
    returns = np.zeros(EPISODES)
    running = np.ones(EPISODES, dtype=bool)
    while running.any():
        values = observations
        for weight, bias in weights[:-1]:
            values = np.maximum(values @ weight + bias, 0.0)
        values = values @ weights[-1][0] + weights[-1][1]
        observations, rewards, terminated, truncated, _ = envs.step(values.argmax(axis=1))
        returns += rewards * running
        running &= ~(terminated | truncated)  # what an environment does after its reset no longer counts
    envs.close()
    return returns


def train(seed: int, evaluate_every: int, cap: int) -> dict[str, Any]:
    """Train until two evaluations on different seeds in a row say solved, or for `cap` environment steps."""
    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1_000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=EPSILON_STEPS / cap,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        device="cpu",
        seed=seed,
    )
    means: list[float] = []

    def evaluate() -> float:
        means.append(float(greedy_returns(model.q_net, 1_000_000 * (seed + 1) + 1_000 * len(means)).mean()))
        return means[-1]

    solved = False

    def each_step(_locals: dict[str, Any], _globals: dict[str, Any]) -> bool:
        nonlocal solved
        if model.num_timesteps % evaluate_every == 0:
            solved = evaluate() >= SOLVED and evaluate() >= SOLVED
        return not solved

    model.learn(cap, callback=each_step)
    return {
        "seed": seed,
        "solved": solved,
        "env_steps": model.num_timesteps,
        "updates": model._n_updates,
        "evaluations": len(means),
        "best_mean": max(means),
        "last_mean": means[-1],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--evaluate-every", type=int, required=True)
    parser.add_argument("--cap", type=int, required=True)
    arguments = parser.parse_args()
    print(json.dumps(train(arguments.seed, arguments.evaluate_every, arguments.cap)), flush=True)
