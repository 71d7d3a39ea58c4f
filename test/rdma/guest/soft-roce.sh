# To be read by a shell in the guest, as root: a network interface that leads nowhere, and Soft-RoCE on it.
ulimit -l unlimited &&
  ip link set lo up &&
  ip link set eth0 up &&
  ip address add "$TIDEGATE_TEST_FABRIC_ADDRESS/24" dev eth0 &&
  rdma link add rxe0 type rxe netdev eth0 ||
  exit 1
