"""Jobs: documents read in the background. `job` has the nouns, `sqlite` and `redis` keep them, `runner` does them."""
