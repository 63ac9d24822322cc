"""What every floor may use: errors that users read, files, checks."""
