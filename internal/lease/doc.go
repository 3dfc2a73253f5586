// Package lease is the life of a chunk: who may measure its targets now, what
// came back, and what happens when a message, a probe or a controller is lost.
//
// It is one pure function, [Rules.Step]: (state, now, event) -> (state,
// effects). The store runs it inside a transaction, so the state that the next
// event meets is always a durable one; the controller carries out the effects.
//
//	PENDING --offer--> OFFERED --accept--> HELD --last item--> DONE
//	   ^                  |                 |  ^
//	   |<--30 s, stream --+      TTL lapses |  | the probe still holds it
//	   |   lost, refused                    v  |
//	   |<-----------grace is over-------- SUSPECT
//	   +--9 offers, no accept; given up--> POISONED
//
// Every offer has a new epoch. Only messages of the newest epoch move the
// lease; an older one changes no lease, it can at most bring a result that is
// still missing (marked late).
//
// A probe starts a target only after its Renew with a higher Taken was heard, and
// it knows that; and nothing new when the TTL is over, counted from before it said
// so. Here it is counted from when that was heard, is never shortened, and is
// followed by the grace. So what is given to another probe no probe has started,
// unless the survey has it repeated, and then it is marked.
//
// No clock, no random number, no I/O and no message of the wire may enter.
package lease
