package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parameters reads a job's parameters and collects what is wrong with them, to say it all at once. It has no defaults:
// those stand in the job's template.
type parameters struct {
	env   environment
	wrong []string
}

// text is a parameter that has to be there.
func (p *parameters) text(name string) string {
	value := p.env[name]
	if value == "" {
		p.wrong = append(p.wrong, name+" is not set")
	}
	return value
}

// number is a whole number that has to be there.
func (p *parameters) number(name string) int {
	value := p.text(name)
	if value == "" {
		return 0
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		p.wrong = append(p.wrong, fmt.Sprintf("%s is no whole number: %q", name, value))
	}
	return int(n)
}

// seconds is a duration, none when it isn't there.
func (p *parameters) seconds(name string) time.Duration {
	return time.Duration(p.count(name)) * time.Second
}

// count is a whole number, zero when it isn't there.
func (p *parameters) count(name string) int {
	if p.env[name] == "" {
		return 0
	}
	return p.number(name)
}

// flag is true or false, and false when it isn't there.
func (p *parameters) flag(name string) bool {
	value := p.env[name]
	if value != "" && value != "true" && value != "false" {
		p.wrong = append(p.wrong, fmt.Sprintf("%s is neither true nor false: %q", name, value))
	}
	return value == "true"
}

func (p *parameters) err() error {
	if len(p.wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errRefused, strings.Join(p.wrong, "; "))
}
