"""What do users notice while real processes are killed, frozen, slowed, cut off, told wrong times and given bad disks?

Three regions as ``make up`` has them, clients that ask all the time, faults one by one and in pairs, and a recorder
that judges by what clients saw, what gateways logged and what the planes tell of themselves. ``make faults``.
"""
