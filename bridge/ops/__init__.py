"""What an operator needs: logs, metrics, systemd, the listener's certificate."""
