package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// completeWords makes the shell complete a flag with one of the words.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not defined
	}
}

// oneOf is a flag that takes one of a few words.
type oneOf struct {
	value string
	words []string
}

func (o *oneOf) String() string { return o.value }
func (o *oneOf) Type() string   { return strings.Join(o.words, "|") }

func (o *oneOf) Set(s string) error {
	if !slices.Contains(o.words, s) {
		return fmt.Errorf("want %s", strings.Join(o.words, ", "))
	}
	o.value = s
	return nil
}

// addOneOf defines such a flag; the first word is its default.
func addOneOf(cmd *cobra.Command, o *oneOf, name, usage string, words ...string) {
	*o = oneOf{value: words[0], words: words}
	cmd.Flags().Var(o, name, usage)
	completeWords(cmd, name, words...)
}

// ports is a flag that takes lists of ports. The first use replaces the
// default, later ones add.
type ports struct {
	list []uint16
	set  bool
}

func (p *ports) Type() string { return "PORT[,PORT...]" }

func (p *ports) String() string {
	words := make([]string, len(p.list))
	for i, port := range p.list {
		words[i] = strconv.Itoa(int(port))
	}
	return strings.Join(words, ",")
}

func (p *ports) Set(s string) error {
	if !p.set {
		p.list, p.set = nil, true
	}
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not a port: want 1 to 65535", word)
		}
		if !slices.Contains(p.list, uint16(n)) {
			p.list = append(p.list, uint16(n))
		}
	}
	return nil
}

// prefixes is a flag that takes address blocks.
type prefixes []netip.Prefix

func (p *prefixes) Type() string { return "CIDR" }

func (p *prefixes) String() string {
	words := make([]string, len(*p))
	for i, prefix := range *p {
		words[i] = prefix.String()
	}
	return strings.Join(words, ",")
}

func (p *prefixes) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(word))
		if err != nil {
			addr, err := netip.ParseAddr(strings.TrimSpace(word))
			if err != nil {
				return errors.New("want a block such as 10.0.0.0/8, or an address")
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		*p = append(*p, prefix)
	}
	return nil
}
