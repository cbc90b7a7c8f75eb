"""What the benchmarks of the data plane share: a scripted upstream, a load generator, contestants, accounting."""
