package agent

import (
	"fmt"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The versions of the wire contract this probe speaks.
const (
	protocolMin = 1
	protocolMax = 1
)

// capabilities are what this probe can do beyond the protocol's first version.
var capabilities = []string{"drain", "events", "limits", "self-test"}

// SkewReason is the reason, in a google.rpc.ErrorInfo, of a controller that
// speaks no version of the protocol that the probe does. Its metadata have the
// controller's "protocol_min" and "protocol_max".
const SkewReason = "PROTOCOL_UNSUPPORTED"

// SkewError: the probe and its controller have no version of the protocol in
// common. Trying again is of no use.
type SkewError struct {
	Min, Max uint32 // the controller's; 0: it did not say
}

func (e *SkewError) Error() string {
	speaks := fmt.Sprintf("protocol %d to %d", e.Min, e.Max)
	which := ""
	switch {
	case e.Max == 0:
		speaks = "no protocol that is known here"
	case e.Max < protocolMin:
		which = "it is older than this probe, "
	case e.Min > protocolMax:
		which = "this probe is older than its controller, "
	}
	return fmt.Sprintf("the controller speaks %s, this probe %d to %d: %suse a probe of the controller's version", speaks, protocolMin, protocolMax, which)
}

// GRPCStatus makes it the status of a call.
func (e *SkewError) GRPCStatus() *status.Status {
	return status.New(codes.FailedPrecondition, e.Error())
}

// skewOf is the SkewError in the error of a call, or else that error.
func skewOf(err error) error {
	for _, d := range status.Convert(err).Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetReason() != SkewReason {
			continue
		}
		number := func(key string) uint32 {
			n, _ := strconv.ParseUint(info.GetMetadata()[key], 10, 32) // 0 when it is none
			return uint32(n)
		}
		return &SkewError{Min: number("protocol_min"), Max: number("protocol_max")}
	}
	return err
}
