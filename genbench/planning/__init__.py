"""What is to be done before anything is: jobs with what they will need, and every mistake found on the way."""
