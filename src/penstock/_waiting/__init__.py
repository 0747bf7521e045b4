"""Who waits, and where: nobody holds a thread or a loop for somebody who waits."""
