"""From a store to results: step 1, learners and folds put together; sweeps."""
