"""The drivers run the rules and do what these ask for; none of them decides anything."""
