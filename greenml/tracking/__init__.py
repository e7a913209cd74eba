"""Any program under the meter: as a command, as a library, from other people's training loops."""
