#!/usr/bin/env bash
# Makes a disk with a small Debian on it that starts by itself: disk.sh DIR
# leaves DIR/disk.qcow2. It needs no mount, no loop device and no root: the
# files come from mmdebstrap as an archive, mke2fs fills the file system from
# a directory, and GRUB is put together by grub-mkimage.
#
#	sector 0        partition table and GRUB's first stage
#	sector 1…       GRUB's second stage with the drivers to read /boot
#	sector 2048…    ext4, labelled "strongroom"
#
# The guest has sysvinit, a getty on the first serial line and a root without
# a password, whose shell is /bin/sh.
set -euo pipefail
cd "$1"
suite=bookworm size=$((512 << 20)) partition=$((1 << 20))
export PATH=$PATH:/usr/sbin:/sbin SOURCE_DATE_EPOCH=1700000000

# From where this machine's own packages come.
mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 2>/dev/null |
	awk -v s=$suite '$1 == s && $2 == "main" && !mirror { mirror = $3 } END { print mirror }')
mapfile -t network < <(apt-config dump | grep -E '^Acquire::(http|https|Retries)' | sed 's/^/--aptopt=/')

exclude=()
for path in man doc locale i18n; do exclude+=(--dpkgopt="path-exclude=/usr/share/$path/*"); done
mmdebstrap --quiet --format=tar --variant=essential \
	--include=linux-image-cloud-amd64,initramfs-tools,sysvinit-core \
	"${network[@]}" --aptopt='APT::Install-Recommends "false"' \
	--dpkgopt=force-unsafe-io "${exclude[@]}" \
	--essential-hook='cd "$1" && mkdir -p etc/initramfs-tools/conf.d usr/share/initramfs-tools/modules.d' \
	--essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/guest"' \
	--essential-hook='printf "%s\n" virtio_pci virtio_blk ext4 >"$1/usr/share/initramfs-tools/modules.d/guest"' \
	$suite root.tar "${mirror:-http://deb.debian.org/debian}"

mkdir root
tar -C root --no-same-owner -xf root.tar --exclude='./dev/*'
echo guest >root/etc/hostname
sed -i -e 's|^root:[^:]*:|root::|' root/etc/shadow
sed -i -e '/^root:/s|/bin/bash$|/bin/sh|' root/etc/passwd
cat >root/etc/inittab <<'END'
id:2:initdefault:
si::sysinit:/etc/boot
l0:0:wait:/etc/halt
s0:2:respawn:/sbin/agetty --noclear --local-line ttyS0 115200 vt100
END
cat >root/etc/boot <<'END'
#!/bin/sh
mount -n -o remount,rw /
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
hostname -F /etc/hostname
END
cat >root/etc/halt <<'END'
#!/bin/sh
killall5 -9
mount -n -o remount,ro / && poweroff -f
END
chmod 755 root/etc/boot root/etc/halt
kernel=$(cd root/boot && echo vmlinuz-*) initrd=$(cd root/boot && echo initrd.img-*)
mkdir -p root/boot/grub
cat >root/boot/grub/grub.cfg <<END
serial --unit=0 --speed=115200
terminal_output serial
linux /boot/$kernel root=LABEL=strongroom ro console=ttyS0,115200 quiet mitigations=off
initrd /boot/$initrd
boot
END

truncate -s $size disk.raw
sfdisk -q disk.raw <<<"label: dos
start=$((partition / 512)), type=83, bootable"
mke2fs -q -t ext4 -L strongroom -E offset=$partition,root_owner=0:0 -d root disk.raw $(((size - partition) >> 10))k
grub-mkimage -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 normal linux serial terminal boot configfile
[[ $(stat -c %s core.img) -le $((partition - 512)) ]]
dd if=/usr/lib/grub/i386-pc/boot.img of=disk.raw bs=440 count=1 conv=notrunc status=none
dd if=core.img of=disk.raw bs=512 seek=1 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
