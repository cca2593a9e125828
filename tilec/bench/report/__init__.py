"""What results of `tilec bench` say: a page with plots, and what changed between two runs."""
