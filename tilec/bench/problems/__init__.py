"""What contenders solve, how tilec solves it, and the result in f64."""
