"""Networks that several systems are built on: trunks, U-Net, DCGAN, attention and others."""
