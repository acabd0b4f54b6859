"""The federation: a Flower app of chest X-ray clients.

``server_app`` and ``client_app`` are Flower's entry points; both build their parts in
``federation`` from ``settings``. ``data``, ``models``, ``training`` and ``defences`` are what
clients have, ``rounds`` the course of a run, ``workers`` the attacks beside it, ``offline`` what is
done with a run afterwards, ``engines`` what runs it all, ``cli`` the command. Imports go from
``cli`` down to these; a test holds the order.
"""
