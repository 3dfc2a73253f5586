package identity

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	pb "tfofleet/proto/tfofleet/v1"
)

// Class says who a caller is.
type Class uint8

const (
	// Anyone has no certificate, or it does not matter.
	Anyone Class = iota + 1
	// Probes have a probe's certificate.
	Probes
	// Operators have an operator's certificate, or came over the socket.
	Operators
)

func (c Class) String() string {
	switch c {
	case Anyone:
		return "anyone"
	case Probes:
		return "a probe"
	case Operators:
		return "an operator"
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// Limit is how many calls one caller may make: PerSecond over time, Burst at
// once. A caller is a probe, an operator, or an address that has shown no
// certificate of the fleet.
type Limit struct {
	PerSecond float64
	Burst     int
}

// Rule is who may call a method.
type Rule struct {
	Class Class
	Limit Limit
	// Timeout ends a call that takes longer; 0 means never.
	Timeout time.Duration
}

// Table is who may call what, by the method's full name. What is not in it
// nobody may call.
type Table map[string]Rule

var (
	// A thousand probes behind one NAT join in under two minutes.
	joins = Limit{PerSecond: 10, Burst: 100}
	// A probe's streams are few and last; a reconnect after a lost network
	// makes several.
	streams = Limit{PerSecond: 1, Burst: 20}
	// People and their scripts.
	commands = Limit{PerSecond: 50, Burst: 200}
)

// Methods is the table of the controller: all its services in one place.
func Methods() Table {
	return Table{
		pb.EnrollmentService_Enroll_FullMethodName:  {Anyone, joins, 30 * time.Second},
		pb.EnrollmentService_Recover_FullMethodName: {Anyone, joins, 30 * time.Second},

		pb.ProbeService_Session_FullMethodName:       {Probes, streams, 0},
		pb.ProbeService_ReportResults_FullMethodName: {Probes, streams, 0},
		pb.ProbeService_Renew_FullMethodName:         {Probes, streams, 30 * time.Second},
		pb.ProbeService_ReportTask_FullMethodName:    {Probes, commands, time.Minute},
		pb.ProbeService_Reflect_FullMethodName:       {Probes, streams, 30 * time.Second},

		pb.ControlService_AddTargets_FullMethodName:    {Operators, commands, 0},
		pb.ControlService_CreateSurvey_FullMethodName:  {Operators, commands, 0},
		pb.ControlService_GetSurvey_FullMethodName:     {Operators, commands, 0},
		pb.ControlService_WatchSurvey_FullMethodName:   {Operators, commands, 0},
		pb.ControlService_CancelSurvey_FullMethodName:  {Operators, commands, 0},
		pb.ControlService_PauseSurvey_FullMethodName:   {Operators, commands, 0},
		pb.ControlService_ResumeSurvey_FullMethodName:  {Operators, commands, 0},
		pb.ControlService_ListSurveys_FullMethodName:   {Operators, commands, 0},
		pb.ControlService_ListResults_FullMethodName:   {Operators, commands, 0},
		pb.ControlService_ExportResults_FullMethodName: {Operators, commands, 0},

		pb.ControlService_RunMesh_FullMethodName: {Operators, commands, 0},

		pb.ControlService_CreateJoinToken_FullMethodName: {Operators, commands, 0},
		pb.ControlService_ListJoinTokens_FullMethodName:  {Operators, commands, 0},
		pb.ControlService_RevokeJoinToken_FullMethodName: {Operators, commands, 0},
		pb.ControlService_ListProbes_FullMethodName:      {Operators, commands, 0},
		pb.ControlService_GetProbe_FullMethodName:        {Operators, commands, 0},
		pb.ControlService_BanProbe_FullMethodName:        {Operators, commands, 0},
		pb.ControlService_DrainProbe_FullMethodName:      {Operators, commands, 0},
		pb.ControlService_LimitProbe_FullMethodName:      {Operators, commands, 0},
		pb.ControlService_CreateOperator_FullMethodName:  {Operators, commands, 0},
		pb.ControlService_ListOperators_FullMethodName:   {Operators, commands, 0},
		pb.ControlService_BanOperator_FullMethodName:     {Operators, commands, 0},

		grpc_health_v1.Health_Check_FullMethodName: {Operators, commands, 0},
		grpc_health_v1.Health_List_FullMethodName:  {Operators, commands, 0},
		grpc_health_v1.Health_Watch_FullMethodName: {Operators, commands, 0},

		grpc_reflection_v1.ServerReflection_ServerReflectionInfo_FullMethodName:      {Operators, commands, 0},
		grpc_reflection_v1alpha.ServerReflection_ServerReflectionInfo_FullMethodName: {Operators, commands, 0},

		Pages: {Operators, commands, 0},
	}
}

// Compare says which methods of a server have no rule and which rules have no
// method, sorted. Pages are no method.
func (t Table) Compare(services map[string]grpc.ServiceInfo) (noRule, noMethod []string) {
	methods := make(map[string]bool)
	for service, info := range services {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			methods[name] = true
			if _, ok := t[name]; !ok {
				noRule = append(noRule, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if !methods[name] && name != Pages {
			noMethod = append(noMethod, name)
		}
	}
	slices.Sort(noRule)
	return noRule, noMethod
}
