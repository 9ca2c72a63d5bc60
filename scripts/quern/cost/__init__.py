"""What each stage costs in time, memory and disk, before it runs. Pure, since the rules read it."""
