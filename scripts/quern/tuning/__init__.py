"""How to run a model fastest on a machine: what to try, trials in turns, what they show."""
