"""The paper's tables, figure and claims as runs to plan, execute, collect and judge."""
