"""Messages of guests that no SDK message covers."""
