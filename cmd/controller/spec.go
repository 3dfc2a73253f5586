package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"

	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// families are the words of --family.
var families = map[string]pb.Family{"any": pb.Family_FAMILY_ANY, "4": pb.Family_FAMILY_IPV4, "6": pb.Family_FAMILY_IPV6}

// spec turns the flags into what the survey asks of every probe.
func (f *surveyFlags) spec() (*pb.SurveySpec, error) {
	switch {
	case math.IsNaN(f.rate) || math.IsInf(f.rate, 0) || f.rate < 0:
		return nil, usage("--rate %v is not a rate", f.rate)
	case f.concurrency == 0:
		return nil, usage("--concurrency 0 would measure nothing")
	case f.timeout <= 0:
		return nil, usage("--timeout %v is no time", f.timeout)
	case f.hold < 0:
		return nil, usage("--hold %v is below 0", f.hold)
	}
	payload, given, err := loadPayload(f.payload)
	if err != nil {
		return nil, err
	}
	return &pb.SurveySpec{
		Plan:    map[string]pb.Plan{"quick": pb.Plan_PLAN_QUICK, "standard": pb.Plan_PLAN_STANDARD, "thorough": pb.Plan_PLAN_THOROUGH}[f.plan.value],
		Family:  families[f.family.value],
		Payload: payload, PayloadBytes: given,
		Seed: f.seed, Rate: f.rate, Concurrency: f.concurrency,
		Timeout: durationpb.New(f.timeout), Hold: durationpb.New(f.hold),
		RepeatInterrupted: true, // by --resume; it is marked
	}, nil
}

// chooseSeed draws a seed where none was given; it is recorded like one that was.
func (f *surveyFlags) chooseSeed(given bool) {
	if !given {
		f.seed = rand.Uint64()
	}
}

// loadPayload understands --payload.
func loadPayload(s string) (pb.Payload, []byte, error) {
	kind, given, err := measure.LoadPayload(s)
	var file *fs.PathError
	switch {
	case errors.As(err, &file):
		return 0, nil, unreadable(err, "check the path in --payload file:PATH")
	case err != nil:
		return 0, nil, usage("--payload: %w", err)
	}
	return pb.Payload(kind), given, nil
}

// usage is the ending for a flag that makes no sense.
func usage(format string, args ...any) *ending {
	return fail(exitUsage, fmt.Errorf(format, args...))
}
