"""What our servers of HTTP share: how they listen, what bounds a connection, what bounds guesses."""
