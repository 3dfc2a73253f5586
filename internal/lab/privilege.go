package lab

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// PrivilegeError says which privileges are missing and what to do about it.
type PrivilegeError struct {
	Missing []string // capability names
	UserNS  error    // why no user namespace could be used instead; nil if not tried
}

func (e *PrivilegeError) Unwrap() error { return e.UserNS }

func (e *PrivilegeError) Error() string {
	s := "the lab builds network namespaces and needs root"
	if len(e.Missing) > 0 {
		s = "the lab builds network namespaces and lacks " + strings.Join(e.Missing, ", ")
	}
	if e.UserNS != nil {
		s += fmt.Sprintf("; an unprivileged user namespace cannot be used either: %v", e.UserNS)
	}
	return s + "; run it as root (sudo), or allow unprivileged user namespaces: " +
		"sysctl -w user.max_user_namespaces=15000, on Debian also kernel.unprivileged_userns_clone=1, " +
		"on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0"
}

var needed = []struct {
	capability int
	name       string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, // unshare, setns, mount
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, // links, addresses, routes
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},     // the box's packet sockets
}

// CheckPrivileges reports whether this process may build a lab: nil, or a
// *PrivilegeError. See [Enter] for a way out.
func CheckPrivileges() error {
	var data [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var missing []string
	for _, n := range needed {
		if data[n.capability/32].Effective&(1<<(n.capability%32)) == 0 {
			missing = append(missing, n.name)
		}
	}
	if missing != nil {
		return &PrivilegeError{Missing: missing}
	}
	return nil
}
