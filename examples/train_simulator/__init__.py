"""A recipe: fine-tune a language model to simulate neurons, with transformers' Trainer and, for LoRA, peft.

From the folder `examples`, `python -m train_simulator --help`; see "Training one of your own" in `docs/simulators.md`.
"""
