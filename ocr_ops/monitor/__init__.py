"""What is watched in production: objectives -> rules, alerts and dashboards."""
