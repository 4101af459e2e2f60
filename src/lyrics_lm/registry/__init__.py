"""The one home of MLflow: its server, training runs, model versions, verdicts and deployments."""
