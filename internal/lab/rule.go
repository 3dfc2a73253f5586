package lab

// Dir is the direction a frame travels.
type Dir uint8

const (
	Forward Dir = 1 << iota // client to server
	Return                  // server to client

	Both = Forward | Return
)

func (d Dir) String() string {
	switch d {
	case Forward:
		return "forward"
	case Return:
		return "return"
	}
	return "both"
}

// Rule is one thing a path does: to frames that travel in direction On and
// match If, do Do. The rules of a path run in order over every TCP frame, and
// each sees what those before it left; a frame that a rule drops or answers is
// not shown to the next.
type Rule struct {
	On Dir
	If Match // the zero Match matches every frame
	Do Action
}

func (r Rule) String() string {
	s := r.On.String() + ": "
	if r.If.is != nil {
		s += "if " + r.If.text + " "
	}
	return s + r.Do.text
}
