/* What is in a segment, as words that can be compared.
 *
 *     a=1,2             the normal channel "a" holds the messages 1 and 2
 *     v.1!=3>x,4>x+y    an inbox: message 3 for the local name "x", group message 4 for "x" and "y"; without messages
 *                       "v.1!="
 *     g:v.1!x           "v.1!x" is a member of the group "g"
 *     g@5               the group "g" has a record, with T = 5
 *     #3:10.2 #3t5      the position in the stream on the server 3 is 10-2, in turn 5
 *     #3e7.1            of the server 3 is known: incarnation 7 and 1 flush,
 *     #3r77 #3f5        R = 77, and that T = 5 was forgotten
 *
 * in alphabetical order. What has expired is not there. Read without the lock: no other process is at work.
 */
#pragma once

#include "support.h"

#define CONTENT 4096

void content_read(struct handle *handle, char text[CONTENT]);

/* Takes out all words with `part` in them. */
void content_without(char text[CONTENT], const char *part);

/* Whether `text` can be met on the way from `before` to `after`: what is in both is in it, what is in neither is not,
 * and each queue keeps its order. */
bool content_is_between(const char *before, const char *after, const char *text);
