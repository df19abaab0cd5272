"""Offline: the agents' roles without a language model, by statistics of what activates a neuron."""
