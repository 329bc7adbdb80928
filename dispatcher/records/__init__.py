"""What reads return: values that mask people by default."""
