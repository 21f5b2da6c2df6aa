"""From a statement record to its result: plan nodes, the planner, the executor, scripts."""
