"""Running a tower: the execution plan, sessions, packed graphs."""
