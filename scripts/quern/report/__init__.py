"""What the user reads: tables and pictures of finished figures."""
