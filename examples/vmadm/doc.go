// Vmadm runs zones on one machine with the command line of SmartOS's vmadm. It is an example of zones/host: all behaviour is
// there; here are flags, terminals and texts.
//
//	vmadm create < payload.json        {"brand":"joyent","image_uuid":"sparse","max_physical_memory":256}
//	vmadm list
//	vmadm exec UUID /bin/bash          (an addition)
//	vmadm delete UUID
//
// State is kept in -dir, or MOBULA_ZONES_DIR, or /var/lib/mobula-zones. There is no daemon: zones run on when a command has ended.
// Beside running zones one small process of the same program stays, which answers their metadata and notices their ends; it goes with
// the last of them, and if it is killed the next command brings it back.
//
// Commands are a table in main.go, whose usage lines are also what they are parsed by (usage.go); what a command works on is in open.go.
package main
