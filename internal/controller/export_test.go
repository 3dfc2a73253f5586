package controller

import (
	"errors"
	"time"
)

// Hurry has meshes wait for each of a probe's duties no longer than that.
func (s *Server) Hurry(d time.Duration) {
	s.meshTimes = meshTimes{come: d, answer: d, away: d, lastPart: d}
}

// Connected reports whether a probe has a session here.
func (s *Server) Connected(probe string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[probe] != nil
}

// Knows reports whether a survey has been taken up here.
func (s *Server) Knows(survey string) bool {
	_, ok := s.running(survey)
	return ok
}

// Refresh writes survey.json of a survey that has not ended anew.
func (s *Server) Refresh(survey string) error {
	v, ok := s.running(survey)
	if !ok {
		return errors.New("it has ended")
	}
	return s.refresh(v)
}
