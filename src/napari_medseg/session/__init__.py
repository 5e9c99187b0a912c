"""What the user is doing now: psygnal, no Qt. One controller a user story."""
