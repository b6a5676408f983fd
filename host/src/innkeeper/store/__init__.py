"""What the host keeps: deployed workflows, executions, their logs and journals."""
