-- SPDX-License-Identifier: BSD-3-Clause
-- Leaves a note for a process.
--
-- KEYS  1 notes
-- ARGV  1 note
-- Returns 1
-- include: clock notes

leave_note(KEYS[1], ARGV[1])
return 1
